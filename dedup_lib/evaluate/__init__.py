"""How often decisions are right: labelled clips and made variants."""
