-- claim(wakes, leases, run, log, run, log, …; now, token, ttl, expired, entries)
--     -> numbers and texts of the taken, {{at, what is wrong}, …}, how many were lost to others or not looked at
--
--   wakes     zset          index of the runs that nobody holds, by wake
--   leases    zset          index of the held runs, by expiry
--   run, log  hash, list    of each entry's run
--
-- The first `expired` entries are of leases, the others of wakes; tabs part them. Runs that this very token holds
-- are given again: the client may have sent the call twice.
--
-- For each run taken the numbers are its place among the entries, the sizes of its lines and its snapshot, the count
-- of its records and their sizes; the texts are all these, one behind the other. That is much cheaper to read
-- than a list of lists. A log that would hold up the server has the count -1 and is left to be read by the caller.

local PATIENCE = 16 -- entries lost before the first is taken: somebody else is at work here
local BUDGET = 4194304 -- bytes of snapshots that one answer may carry
local LOGS, RECORDS = 1048576, 2000 -- bytes and records of logs that one answer may carry beside them

local wakes, leases, token, expired, now = KEYS[1], KEYS[2], ARGV[2], tonumber(ARGV[4]), clock()
local entries, expires = split(ARGV[5]), digits(now + ARGV[3])
local takes, bad, untidy, lost, size = {}, {}, {}, 0, 0

for at, entry in ipairs(entries) do
  local run, log, index = KEYS[2 * at + 1], KEYS[2 * at + 2], at <= expired and leases or wakes
  local head, wrong, snapshot = look(run, log)
  if head and (head.token == token or is_due(head, index, entry, id_of(run), wakes, leases, now)) then
    takes[#takes + 1] = {at = at, run = run, log = log, head = head, snapshot = snapshot}
    size = size + #snapshot
  else
    untidy[#untidy + 1] = {head = head, wrong = wrong, index = index, entry = entry, run = run}
    if wrong then bad[#bad + 1] = {at, wrong} end
    if head then lost = lost + 1 end
  end
  if size >= BUDGET or (lost >= PATIENCE and #takes == 0) then
    lost = lost + #entries - at
    break
  end
end

local numbers, texts = {}, {}
local function put(text)
  numbers[#numbers + 1], texts[#texts + 1] = #text, text
end

for _, found in ipairs(takes) do
  local records, bytes = tonumber(found.head.records), tonumber(found.head.bytes)
  numbers[#numbers + 1] = found.at
  put(take(found.run, found.head, token, expires, wakes, leases))
  put(found.snapshot)
  if records == 0 then
    numbers[#numbers + 1] = 0
  elseif records <= RECORDS and bytes <= LOGS then
    RECORDS, LOGS = RECORDS - records, LOGS - bytes
    numbers[#numbers + 1] = records
    for _, record in ipairs(redis.call('LRANGE', found.log, 0, -1)) do put(record) end
  else
    numbers[#numbers + 1] = -1
  end
end
for _, found in ipairs(untidy) do tidy(found, wakes, leases, math.max(now, tonumber(ARGV[1]))) end
return {table.concat(numbers, ' '), table.concat(texts), bad, lost}
