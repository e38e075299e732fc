"""The receiver: notifications of the registry, from the request to the inventory.

``endpoint`` makes a delivery durable and answers, with ``writer`` and ``spool``. ``worker`` takes deliveries from the
inbox later, ``envelope`` decodes them, ``store/apply`` applies the events. Nothing here calls the registry. Whatever a
client sent is data: it is stored and compared, never fetched.
"""
