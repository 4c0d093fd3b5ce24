"""The glass: what happened in one run, every number of it, where it came from, and what an edit
would change. In reading order:

what there is     rows, sites, stacks, operations/, address, patterns, aliases, module_paths
what is kept      record, recorder, edits, arrange, capture, budget, store, backing, tokenized,
                  files
what it becomes   run, replay
what can be asked trace; cells, explain, verify, rounding, diff; predictions, lens, attribution,
                  heads, why
how it is said    numbers, words, mathml, export, plot, report/
"""
