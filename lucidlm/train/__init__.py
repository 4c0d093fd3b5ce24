"""From text to a model: what is read, what is learnt from it, and how a run is kept safe.

In reading order:

what is asked for   recipe, setup, building
what is learnt from rows, sources, vocabulary, rendering, corpus, store, packing, batches, batch
how it is learnt    objective, attention, activation, dropout, optimiser, muon, schedule, step
how it goes on      loop, evaluation, checkpoints, state, signals, health, estimate, peak, export
what it tells       events, metrics
on many devices     launch, environment, devices, sharding
what is changed     lora
what parts are for  parts
"""
