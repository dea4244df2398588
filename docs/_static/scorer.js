// Search shows tutorials first, and prose before the descriptions of modules, and those before lists of files.
var Scorer = {
  score: ([docname, , , , score]) =>
    score + (/^(tutorials\/|index$)/.test(docname) ? 10 : 0) - (/^(api|_modules|results|commands|CHANGELOG)/.test(docname) ? 100 : /^(benchmarks|sets)\//.test(docname) ? 50 : 0),
  objNameMatch: 11, objPartialMatch: 6, objPrio: {0: 15, 1: 5, 2: -5}, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
};
