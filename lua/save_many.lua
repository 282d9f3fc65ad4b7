-- save_many(wakes, leases, births, run, log, run, log, …; facts, snapshot, record, …, facts, snapshot, record, …)
--     -> for each save a line with what save.lua would answer
--
--   wakes, leases, births  zset          as for save.lua
--   run, log               hash, list    of each save in turn; several saves of one run are taken in order

local outcomes, at, now = {}, 1, clock()
for key = 4, #KEYS, 2 do
  outcomes[#outcomes + 1], at = save(KEYS[key], KEYS[key + 1], KEYS[1], KEYS[2], KEYS[3], ARGV, at, now)
end
return table.concat(outcomes, '\n')
