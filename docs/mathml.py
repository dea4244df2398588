"Formulas become MathML while the pages are built: no script, no font and no network is needed to read them."
import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

SIZES = re.compile(r"\\[bB]igg?[lrm]?(?![a-zA-Z])")  # docutils does not know sizes; brackets read well without


def mathml(tex: str, block: bool) -> str:
    "Convert a formula; raises MathError for commands that docutils does not know."
    return tex2mathml(SIZES.sub("", tex), as_block=block)


def _visit(self, node):
    block = isinstance(node, nodes.math_block)
    try: html = mathml(node.astext(), block)
    except MathError as e:
        logging.getLogger(__name__).warning("formula %r: %s", node.astext(), e, location=node)
        html = f"<code>{self.encode(node.astext())}</code>"
    self.body.append(f'<div class="math">{html}</div>' if block else html)
    raise nodes.SkipNode


def register(app) -> None:
    "Make MathML a way to render formulas."
    app.add_html_math_renderer("mathml", (_visit, None), (_visit, None))
