std = "lua54"
max_line_length = 100
cache = false

files["spec/**/*_spec.lua"] = { std = "lua54+busted" }
-- A phase script sees the prelude instead of the standard library.
files["phases"] = {
  read_globals = {
    "integer", "number", "string_of", "boolean", "array", "map", "object", "optional", "nullable",
    "any", "KiB", "MiB", "GiB",
  },
}
files["rocks"] = { std = "rockspec" }
files["**/*.rockspec"] = { std = "rockspec" }
