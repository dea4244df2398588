"Sphinx configuration. `python docs/build.py` stages the notebooks and builds; nothing is fetched from a network."
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "docs"), str(ROOT)]

import mathml  # noqa: E402
import sidebar  # noqa: E402
from docments import add_docments  # noqa: E402

import lgdcnn  # noqa: E402

project, author, release = "lgdcnn", "The lgdcnn developers", lgdcnn.__version__
copyright = "2026 onwards, the lgdcnn developers"
extensions = ["myst_nb", "sphinx.ext.autodoc"]

nb_execution_mode = "off"  # notebooks carry their outputs; tests run them
nb_ipywidgets_js = {}  # the default would load scripts from a CDN
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!lgdcnn\.).*")]  # other packages' pages are not at hand

html_theme, html_title = "furo", f"lgdcnn {release}"
html_static_path = [str(ROOT / "docs" / "_static")]
html_css_files, html_js_files = ["site.css"], ["sort.js"]
html_search_scorer = str(ROOT / "docs" / "_static" / "scorer.js")
html_show_sourcelink = False
html_theme_options = {"top_of_page_buttons": []}
html_math_renderer = "mathml"


def skip_request_methods(app, what, name, obj, skip, options):
    "Leave out what scikit-learn adds to estimators."
    return True if name.startswith("set_") and name.endswith("_request") else None


def setup(app):
    app.connect("autodoc-skip-member", skip_request_methods)
    mathml.register(app)
    sidebar.register(app)
    app.connect("autodoc-process-docstring", add_docments)
