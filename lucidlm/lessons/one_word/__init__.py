"""One word through one decoder layer, and on to the end of the sentence."""

ORDER = 40
