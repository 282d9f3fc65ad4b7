-- claim(wakes, leases, run, log, run, log, …; now, token, ttl, expired, entry, entry, …)
--     -> {{at, lines, snapshot} of each taken, …}, {{at, what is wrong}, …},
--        how many were lost to others or not looked at
--
--   wakes     zset          index of the runs that nobody holds, by wake
--   leases    zset          index of the held runs, by expiry
--   run, log  hash, list    of each entry's run
--
-- The first `expired` entries are of leases, the others of wakes. Runs that this very token holds are
-- given again: the client may have sent the call twice.

local PATIENCE = 16 -- entries lost before the first is taken: somebody else is at work here
local BUDGET = 4194304 -- bytes of snapshots that one answer may carry

local wakes, leases, token, expired, now = KEYS[1], KEYS[2], ARGV[2], tonumber(ARGV[4]), clock()
local expires = digits(now + ARGV[3])
local takes, bad, untidy, lost, size, count = {}, {}, {}, 0, 0, #ARGV - 4

-- The head and the snapshot of a run; nil and what is wrong where they cannot be read.
local function look(run, log)
  local found = redis.pcall('HMGET', run, 'head', 'snapshot')
  if found.err then return nil, found.err end
  local head = found[1] and parse(found[1])
  if head and found[2] then
    local wrong = damage(head, log)
    return not wrong and head or nil, wrong, found[2]
  end
  return nil, (found[1] or redis.call('EXISTS', run) == 1) and 'its head or snapshot is not as it was written' or nil
end

for at = 1, count do
  local run, entry, index = KEYS[2 * at + 1], ARGV[at + 4], at <= expired and leases or wakes
  local head, wrong, snapshot = look(run, KEYS[2 * at + 2])
  if head and (head.token == token or is_due(head, index, entry, id_of(run), wakes, leases, now)) then
    takes[#takes + 1] = {at = at, run = run, head = head, snapshot = snapshot}
    size = size + #snapshot
  else
    untidy[#untidy + 1] = {head = head, wrong = wrong, index = index, entry = entry, run = run}
    if wrong then bad[#bad + 1] = {at, wrong} end
    if head then lost = lost + 1 end
  end
  if size >= BUDGET or (lost >= PATIENCE and #takes == 0) then
    lost = lost + count - at
    break
  end
end

local taken = {}
for at, found in ipairs(takes) do
  taken[at] = {found.at, take(found.run, found.head, token, expires, wakes, leases), found.snapshot}
end
for _, found in ipairs(untidy) do tidy(found, wakes, leases, math.max(now, tonumber(ARGV[1]))) end
return {taken, bad, lost}
