-- renew(leases, run, run, …; ttl, token, token, …) -> {at, …} of those that are still held
--
--   leases  zset    index of the held runs, by expiry
--   run     hash    the head of each run

local leases, expires, held, renewed = KEYS[1], digits(clock() + ARGV[1]), {}, {}
for at = 1, #ARGV - 1 do
  local head = read(KEYS[at + 1])
  if head and head.token == ARGV[at + 1] then held[#held + 1] = {at = at, run = KEYS[at + 1], head = head} end
end

for count, found in ipairs(held) do
  local head, id = found.head, id_of(found.run)
  local from, before = place(head, id, nil, leases)
  head.expires = expires
  redis.call('HSET', found.run, 'head', lines_of(head))
  move(from, before, place(head, id, nil, leases))
  renewed[count] = found.at
end
return renewed
