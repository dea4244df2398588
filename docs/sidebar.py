"""Make the tree of the side bar once.

It holds the same links on all pages, and making it anew for each of them was two thirds of the time of a build. Only what
differs is done for each page: where its links begin, and which of them is the page itself.
"""
import functools
import re

from sphinx.environment.adapters.toctree import global_toctree_for_doc

ENTRY = re.compile(r'<li class="toctree-l(\d)[^"]*"><a class="reference internal" href="([^"#]+)">')


@functools.lru_cache(maxsize=1)
def tree(builder) -> str:  # HTML, its links as seen from the root
    node = global_toctree_for_doc(builder.env, "index", builder, tags=builder.tags, collapse=False, titles_only=True,
                                  maxdepth=-1, includehidden=True)
    return builder.render_partial(node)["fragment"]


@functools.lru_cache(maxsize=1)
def branches(html: str) -> dict[str, list[str]]:  # link of a page to the links that lead to it, its own last
    found, branch = {}, []
    for level, link in ENTRY.findall(html):
        branch = [*branch[:int(level) - 1], link]
        found[link] = branch
    return found


def marked(html: str, link: str, is_page: bool) -> str:
    "Mark an entry of the tree as the page or as what leads to it, and open what is below it."
    link_of = f'<a class="(reference internal)" href="{re.escape(link)}">'
    entry = rf'<li class="(toctree-l\d)([^"]*)">{link_of}([^\n]*?</a>)(<input)?'
    own, current, to = (" current-page", "current ", "#") if is_page else ("", "", link)
    def now(m):
        box = '<input checked=""' if m[5] else ""
        return f'<li class="{m[1]} current{m[2]}{own}"><a class="{current}{m[3]}" href="{to}">{m[4]}{box}'
    return re.sub(entry, now, html, count=1)


def at_page(html: str,  # what furo makes of the tree
            link: str, up: str,  # of the page, from the root; from the page to the root
           ) -> str:
    "Mark a page and what leads to it, and let all links begin at the page."
    for step in branches(html).get(link, []): html = marked(html, step, step == link)
    return re.sub(r'href="(?![#"]|[a-z]+:)', f'href="{up}', html)


def before(app, pagename, templatename, context, doctree):
    "Give furo the same tree for all pages; it remembers what it made of it."
    context["toctree"] = lambda **_: tree(app.builder)


def after(app, pagename, templatename, context, doctree):
    up = "../" * pagename.count("/")
    context["furo_navigation_tree"] = at_page(context["furo_navigation_tree"], app.builder.get_target_uri(pagename), up)


def register(app):
    app.connect("html-page-context", before, priority=400)  # furo's own comes at 500
    app.connect("html-page-context", after, priority=600)
