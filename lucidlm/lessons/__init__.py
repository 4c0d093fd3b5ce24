"""Guided walks: prose in Markdown, one file a language, bound to numbers that are computed when the
lesson runs. One folder a lesson; `shelf` finds them, `telling` runs them, `kinds` is what they can
show.
"""
