"""The door through which others ask us.

``v1`` has one file per noun: each reads a request into a model, asks the store once or twice, presents. What
is the same for all of them is here: who asks (``auth``), how a question is read (``parameters``, ``paths``),
how pages are turned (``pagination``), how answers (``answers``) and refusals (``problems``) look, and what
describes all that (``openapi``). Nothing here knows SQL, and nothing here changes anything.
"""
