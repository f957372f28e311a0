"""What `DaskEngine` is made of.

Imports: driver -> visits -> chunks -> chunk, worker -> part -> feed; all of them -> messages -> travel.
"""
