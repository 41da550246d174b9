--- The version of praxlua, named here and nowhere else.
return { text = "0.1.0" }
