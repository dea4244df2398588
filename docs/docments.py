"The comments beside parameters, which nbdev calls docments, become the parameter lists of the API pages."
import inspect
import re

from fastcore.docments import docments


def add_docments(app, what, name, obj, options, lines) -> None:
    "Add what a function says of its parameters and its result; names in backticks are code, as in the notebooks."
    lines[:] = [re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", line) for line in lines]
    if what not in ("function", "method", "class"): return
    try: notes = docments(obj, full=True)
    except (TypeError, ValueError, OSError, SyntaxError): return  # no source: nothing was said
    fields = []
    for parameter, note in notes.items():
        text = inspect.cleandoc(note.docment or "").replace("\n", " ").replace("`", "``").replace("*", r"\*")
        if not text or parameter == "self": continue
        fields.append(f":returns: {text}" if parameter == "return" else f":param {parameter}: {text}")
    if fields: lines.extend(["", *fields, ""])
