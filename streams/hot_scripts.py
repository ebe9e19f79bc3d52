"""What Redis does in one step for the hot copy: Lua, run by EVALSHA.

A mark is a hash `generation, since, next`; an account's copy a hash of its rows, each under
INSTRUMENT\\nCURRENCY, with `generation` and `next` beside them (no row's field is without a line
break). `streams.hot_copy` says what they mean.
"""

from typing import Final

COMMIT: Final = """
-- KEYS mark, account...  ARGV generation, from, next, mark ttl, account ttl, then for each account
-- a count of fields to delete and the fields, a count of values to set and fields and values.
local generation, from, next = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local mark = redis.call('HMGET', KEYS[1], 'generation', 'since', 'next')
local since, before = tonumber(mark[2]), tonumber(mark[3])
if mark[1] ~= generation or not before or from > before then
  since, before = from, from
end
if next > before then
  before = next
end
redis.call('HSET', KEYS[1], 'generation', generation, 'since', since, 'next', before)
if next == before then
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
local at = 6
for index = 2, #KEYS do
  local key = KEYS[index]
  local copy = redis.call('HMGET', key, 'generation', 'next')
  local held = copy[1] == generation and tonumber(copy[2])
  -- A late commit changes nothing: `before` has passed it.
  local applies = held and since <= held and held < next and next == before
  local deletes = tonumber(ARGV[at])
  for field = at + 1, at + deletes do
    if applies then redis.call('HDEL', key, ARGV[field]) end
  end
  at = at + deletes + 1
  local values = tonumber(ARGV[at])
  for field = at + 1, at + values, 2 do
    if applies then redis.call('HSET', key, ARGV[field], ARGV[field + 1]) end
  end
  at = at + values + 1
  if applies then
    redis.call('HSET', key, 'next', next)
    redis.call('EXPIRE', key, ARGV[5])
  elseif not (held and held >= next) then
    redis.call('UNLINK', key)
  end
end
return before
"""

FILL: Final = """
-- KEYS mark, account  ARGV generation, next, account ttl, then fields and values.
local generation, next = ARGV[1], tonumber(ARGV[2])
local mark = redis.call('HMGET', KEYS[1], 'generation', 'next')
-- Marks are the writers' alone: a reader that stood still may know of older rows.
if mark[1] ~= generation or next < tonumber(mark[2]) then
  return 0
end
local copy = redis.call('HMGET', KEYS[2], 'generation', 'next')
if copy[1] == generation and tonumber(copy[2]) > next then
  return 0
end
redis.call('UNLINK', KEYS[2])
redis.call('HSET', KEYS[2], 'generation', generation, 'next', next)
for field = 4, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[field], ARGV[field + 1])
end
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
"""

READ: Final = """
-- KEYS mark, account  ARGV how generations begin that count, next wanted. Answers the generation,
-- next and the rows as one JSON array, or nothing: a reader in Python takes one long text in much
-- less time than many short ones.
local mark = redis.call('HMGET', KEYS[1], 'generation', 'since', 'next')
if not mark[1] or string.sub(mark[1], 1, #ARGV[1]) ~= ARGV[1] then return false end
local told = redis.call('HGETALL', KEYS[2])
local rows, held = {}, nil
for field = 1, #told, 2 do
  local name = told[field]
  if name == 'generation' then
    if told[field + 1] ~= mark[1] then return false end
  elseif name == 'next' then
    held = tonumber(told[field + 1])
  else
    rows[#rows + 1] = told[field + 1]
  end
end
if not held or held < tonumber(mark[2]) then return false end
local next = math.max(held, tonumber(mark[3]))
if next < tonumber(ARGV[2]) then return false end
return {mark[1], next, '[' .. table.concat(rows, ',') .. ']'}
"""
