-- claim(wakes, leases, run, log, run, log, …; now, token, ttl, expired, entry, entry, …)
--     -> {{at, records, field, …} of each taken, …}, {{at, what is wrong}, …},
--        how many were lost to others or not looked at
--
--   wakes     zset          index of the runs that nobody holds, by wake
--   leases    zset          index of the held runs, by expiry
--   run, log  hash, list    of each entry's run
--
-- The first `expired` entries are of leases, the others of wakes. Runs that this very token holds are
-- given again: the client may have sent the call twice.

local PATIENCE = 16 -- entries lost in a row before the first taken: somebody else is at work here
local BUDGET = 4194304 -- bytes of snapshots that one answer may carry

local wakes, leases, token, ttl, expired, now = KEYS[1], KEYS[2], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), clock()
local takes, bad, untidy, lost, bytes = {}, {}, {}, 0, 0
local count = #ARGV - 4

-- Reads the whole head and the length of the log; nil and what is wrong with either.
local function look(at)
  local head, wrong = read(KEYS[2 * at + 1], 'event', 'snapshot')
  if not head then return nil, wrong end
  head.records, wrong = length(KEYS[2 * at + 2])
  if wrong then return nil, wrong end
  return head
end

for at = 1, count do
  local run, entry, index = KEYS[2 * at + 1], ARGV[at + 4], at <= expired and leases or wakes
  local id = id_of(run)
  local head, wrong = look(at)
  if head and (head.token == token or is_due(head, index, entry, id, wakes, leases, now)) then
    takes[#takes + 1] = {at = at, run = run, id = id, head = head}
    bytes = bytes + #head.row[13]
  else
    untidy[#untidy + 1] = {head = head, wrong = wrong, index = index, entry = entry, id = id}
    if wrong then bad[#bad + 1] = {at, wrong} end
    if head then lost = lost + 1 end
  end
  if bytes >= BUDGET or (lost >= PATIENCE and #takes == 0) then
    lost = lost + count - at
    break
  end
end

local taken = {}
for _, take in ipairs(takes) do
  local head = take.head
  local from, before = stand(head, take.id, wakes, leases)
  local died = head.token ~= '' and head.token ~= token
  head.row[5] = whole(head.attempt + (died and 1 or 0))
  redis.call('HSET', take.run, 'token', token, 'expires', whole(now + ttl), 'attempt', head.row[5])
  move(from, before, leases, place(head.workflow, now + ttl, take.id))
  taken[#taken + 1] = {take.at, head.records, unpack(head.row)}
end
for _, found in ipairs(untidy) do tidy(found, wakes, leases, math.max(now, tonumber(ARGV[1]))) end
return {taken, bad, lost}
