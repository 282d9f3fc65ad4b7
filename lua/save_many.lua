-- save_many(wakes, leases, births, run, log, run, log, …; save, save, …)
--     -> for each, what save.lua would answer
--
--   wakes, leases, births  zset          as for save.lua
--   run, log               hash, list    of each save in turn; several saves of one run are taken in order
--
-- A save is one argument: a line of sizes (of the facts, the snapshot, and each record), then all these
-- one behind the other. An argument each would cost the client more than the save costs the server.

local wakes, leases, births, now, outcomes = KEYS[1], KEYS[2], KEYS[3], clock(), {}

local function parts(saved)
  local sizes, from = string.match(saved, '^([%d ]+)\n()')
  local found = {}
  for size in string.gmatch(sizes, '%d+') do
    found[#found + 1] = string.sub(saved, from, from + size - 1)
    from = from + size
  end
  return found
end

for at = 1, #ARGV do
  local new = parts(ARGV[at])
  outcomes[at] = save(KEYS[2 * at + 2], KEYS[2 * at + 3], wakes, leases, births, new[1], new[2], new, 3, now)
end
return outcomes
