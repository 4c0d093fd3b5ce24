"""What breaks if you take a part away: small models of one budget, each without one part.

settings (the budget, the configs), material (what is read), record (what is written down),
variants and modules (the parts taken away), run (one training run), backward (one step's gradients
by hand). The first three need no PyTorch.
"""
