std = "lua54"
max_line_length = 100
cache = false

files["spec/**/*_spec.lua"] = { std = "lua54+busted" }
-- What a phase script sees beside the standard library's harmless part; worker.lua makes it.
local prelude = {
  "integer", "number", "string_of", "boolean", "any", "array_of", "map_of", "optional", "nullable",
  "object", "receipts_of", "answer_of", "need", "KiB", "MiB", "GiB",
}
files["phases"] = { read_globals = prelude }
files["lua/praxlua/worker.lua"] = { globals = prelude }
files["rocks"] = { std = "rockspec" }
files["**/*.rockspec"] = { std = "rockspec" }
