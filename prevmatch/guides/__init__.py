"""Guides: whoever labels the weak views. One file each; a method (`methods.py`) names those that it asks."""
