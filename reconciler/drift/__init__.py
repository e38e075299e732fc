"""The whole registry against the inventory, repository by repository.

``decide`` says what must not be deleted without being asked; ``compare`` looks at one repository; ``walk`` goes
through all of them and writes the report; ``loop`` knows when.
"""
