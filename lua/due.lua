-- due(wakes, leases, run, log, run, log, …; now, expired, entries) -> {at, …} of the due ones, {{at, what is wrong}, …}
--
--   wakes     zset          index of the runs that nobody holds, by wake
--   leases    zset          index of the held runs, by expiry
--   run, log  hash, list    of each entry's run
--
-- The first `expired` entries are of leases, the others of wakes; tabs part them.

local wakes, leases, expired, now = KEYS[1], KEYS[2], tonumber(ARGV[2]), clock()
local entries, due, bad, untidy = split(ARGV[3]), {}, {}, {}

for at, entry in ipairs(entries) do
  local run, index = KEYS[2 * at + 1], at <= expired and leases or wakes
  local head, wrong = look(run, KEYS[2 * at + 2])
  if head and is_due(head, index, entry, id_of(run), wakes, leases, now) then
    due[#due + 1] = at
  else
    untidy[#untidy + 1] = {head = head, wrong = wrong, index = index, entry = entry, run = run}
    if wrong then bad[#bad + 1] = {at, wrong} end
  end
end
for _, found in ipairs(untidy) do tidy(found, wakes, leases, math.max(now, tonumber(ARGV[1]))) end
return {due, bad}
