"""Regions: bounds that hold for every input of a box, by branch and bound over sub-boxes."""
