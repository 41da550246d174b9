--- What a server may make us hold, whatever it sends.
--
-- An answer is refused as soon as it is over a limit, not when it is whole: one of 100 MB costs
-- what the limit costs. The count of values is a limit of its own, as "[[],[],[]…" takes fifty
-- times its size once it is a value.
local limits = {
  message = 16 * 1024 * 1024, -- bytes of one message, and of one reply over HTTP
  values = 250000, -- tables, keys, strings and numbers in one message
  depth = 64, -- levels of nesting
  list = 16 * 1024 * 1024, -- bytes of all pages of a list
  pages = 1000, -- of a list
  tools = 10000, -- in a list
  cursor = 64 * 1024, -- bytes of a page's cursor
  id = 1024, -- bytes of an id that is sent back
  noise = 20, -- last lines kept that are no message
  stderr = 4096, -- last bytes kept of stderr
  resumes = 100, -- how often one event stream is taken up again
}

return limits
