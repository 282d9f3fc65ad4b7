-- due(wakes, leases, run, log, run, log, …; now, expired, entries) -> {at, …} of the due ones, {{at, what is wrong}, …}
--
--   wakes     zset          index of the runs that nobody holds, by wake
--   leases    zset          index of the held runs, by expiry
--   run, log  hash, list    of each entry's run
--
-- The first `expired` entries are of leases, the others of wakes; tabs part them.

local wakes, leases, expired, now = KEYS[1], KEYS[2], tonumber(ARGV[2]), clock()
local due, bad, untidy = {}, {}, {}

for at, entry in ipairs(split(ARGV[3])) do
  local run, index = KEYS[2 * at + 1], at <= expired and leases or wakes
  local found, wrong = look(run)
  local here = found and is_due(found, run, index, entry, wakes, leases, now)
  if here then wrong = damage(KEYS[2 * at + 2], found.records) end
  if here and not wrong then
    due[#due + 1] = at
  else
    untidy[#untidy + 1] = {found = found, wrong = wrong, index = index, entry = entry, run = run}
    if wrong then bad[#bad + 1] = {at, wrong} end
  end
end
tidy(untidy, wakes, leases, math.max(now, ARGV[1]))
return {due, bad}
