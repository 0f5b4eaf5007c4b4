-- The generic cell rate algorithm, by the server's own clock: one number per key, the theoretical arrival time of the next
-- permit in microseconds since a recent epoch (so that a double has nanoseconds to spare). Gives the microseconds to wait,
-- 0 for a permit; a refusal changes nothing.
local clock = redis.call('TIME')
local now = (tonumber(clock[1]) - 1700000000) * 1000000 + tonumber(clock[2])
local window, cost = tonumber(ARGV[1]), tonumber(ARGV[2])
local tail = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + cost
local wait = tail - window - now
if wait > 0 then
  return math.ceil(wait)
end
redis.call('SET', KEYS[1], string.format('%.3f', tail), 'PX', math.max(1, math.ceil((tail - now) / 1000)))
return 0
