"""A dependency small enough to read: says how a text sounds."""

GLAD = {"works", "good", "thanks", "lovely"}


def mood(text):
    """`glad` or `calm`."""
    words = {word.strip(".,!?").lower() for word in text.split()}
    return "glad" if words & GLAD else "calm"
