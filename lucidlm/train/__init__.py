"""From text to a model: what is read, what is learnt from it, and how a run is kept safe.

In reading order:

what is asked for   recipe
what is learnt from rows, sources, corpus, store, packing, batch
how it is learnt    objective, attention, dropout, optimiser, schedule, step
how it goes on      loop, evaluation, checkpoints, state, health, memory, metrics
on many devices     devices, launch
what is changed     lora
"""
