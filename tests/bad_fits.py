"What every estimator refuses to be fitted on: formulas, targets, options, and what the line says."
BAD_FITS = {
    "unequal lengths": (["NaCl", "KCl"], [1.0], {}, "2 formulas but 1 targets"),
    "empty": ([], [], {}, "no formulas"),
    "NaN": (["NaCl", "KCl"], [1.0, float("nan")], {}, "row 1: the target is nan"),
    "infinite": (["NaCl", "KCl"], [float("inf"), 1.0], {}, "row 0: the target is inf"),
    "text": (["NaCl", "KCl"], ["1", "n/a"], {}, "row 1: the target is 'n/a'"),
    "none": (["NaCl", "KCl"], [None, 1], {}, "row 0: the target is None"),
    "cube": (["NaCl", "KCl"], [[[1], [2]], [[3], [4]]], {}, "a table with the same columns"),
    "formula": (["NaCl", "KClx"], [1, 2], {}, "row 1: cannot read formula 'KClx'"),
    "unknown element": (["NaCl", "XxO"], [1, 2], {}, "row 1: .*not an element"),
    "missing formula": (["NaCl", None], [1, 2], {}, "row 1: .*expected a string"),
    "fraction": (["NaCl", "KCl"], [1, 2], {"validation": 1.5}, r"must be a fraction in \[0, 1\)"),
    "fraction as text": (["NaCl", "KCl"], [1, 2], {"validation": "x"}, "must be a fraction"),
    "huge": (["NaCl", "KCl", "LiF"], [1e300, -1e300, 0], {"validation": 0}, "too large"),
    "held-out pair": (["NaCl", "KCl"], [1, 2], {"validation": (["LiF"], [1, 2])}, "1 formulas but 2 targets"),
}
