"""Meta-World CDS: a door and a drawer in one scene."""
