-- save_many(wakes, leases, births, run, log, run, log, …; numbers, texts)
--     -> for each save a line with what save.lua would answer
--
--   wakes, leases, births  zset          as for save.lua
--   run, log               hash, list    of each save in turn; several saves of one run are taken in order
--
-- For each save the numbers are the count of its texts and their sizes; the texts are the facts, the snapshot and the
-- records, of all saves one behind the other. An argument each would cost the client more than the save costs us.

local wakes, leases, births, now, outcomes = KEYS[1], KEYS[2], KEYS[3], clock(), {}
local texts, from, following = ARGV[2], 1, string.gmatch(ARGV[1], '%d+')

local function parts(count)
  local found = {}
  for at = 1, count do
    local upto = from + following()
    found[at] = string.sub(texts, from, upto - 1)
    from = upto
  end
  return found
end

for at = 1, (#KEYS - 3) / 2 do
  local new = parts(following())
  outcomes[at] = save(KEYS[2 * at + 2], KEYS[2 * at + 3], wakes, leases, births, new[1], new[2], new, 3, now)
end
return table.concat(outcomes, '\n')
