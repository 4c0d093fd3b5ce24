"""What the command line draws: numbers, bars, tables and the six stages of a word. No mathematics
of the model here.
"""
