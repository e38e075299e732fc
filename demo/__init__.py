"""The main job, end to end, on real parts: ``python3 dev.py demo``.

A real Distribution registry posts its notifications to ``indexer up``; people push, move and delete;
something happens behind everybody's back; ``reconciler once`` finds it. What is shown is checked against what
was done. Not part of the product.
"""
