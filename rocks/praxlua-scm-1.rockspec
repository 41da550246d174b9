rockspec_format = "3.0"
package = "praxlua"
version = "scm-1"
source = {
  url = "git+file://.", -- built in its own clone: luarocks make rocks/praxlua-scm-1.rockspec
}
description = {
  summary = "A scriptable upgrade runtime: a C host that runs an upgrade as Lua phases",
  detailed = [[
    praxlua upgrades a tree that was copied into somebody's project from a source repository. At
    every instant the installation can be brought to exactly the old version or exactly the new
    one, and nothing a person wrote is ever lost.
  ]],
  license = "MIT",
}
supported_platforms = { "linux" }
dependencies = {
  "lua ~> 5.4",
  "luafilesystem >= 1.8",
  "lua-cjson >= 2.1",
  "argparse >= 0.7",
}
external_dependencies = {
  LIBUV = { header = "uv.h" },
  LIBARCHIVE = { header = "archive.h" },
  CRYPTO = { header = "openssl/evp.h" },
  SECCOMP = { header = "seccomp.h" },
}
build = {
  type = "make",
  build_target = "all",
  install_variables = {
    BINDIR = "$(BINDIR)",
    LUADIR = "$(LUADIR)",
    LIBDIR = "$(LIBDIR)",
  },
  copy_directories = {},
}
test = {
  type = "command",
  command = "make unit",
}
