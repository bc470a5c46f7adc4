// A member that uses the npm package: node node-distributed-lock.js NAME SECONDS FILE
// FLEET_POSTGRES: the server's URL; FLEET_TABLE: the table; FLEET_TTL: seconds
const fs = require('fs')
const { createRequire } = require('module')
const fromFleet = createRequire(process.env.FLEET_PACKAGES + '/')
const { Pool } = fromFleet('pg')
const DistributedLock = fromFleet('@ndustrial/node-distributed-lock/lib')

const [name, seconds, file] = process.argv.slice(2)
const pool = new Pool({ connectionString: process.env.FLEET_POSTGRES, max: 2 })
const lock = new DistributedLock(name, {
  queryInterface: pool,
  lockTableName: process.env.FLEET_TABLE,
  lockTTLSeconds: Number(process.env.FLEET_TTL),
})

const inside = async () => {
  try {
    fs.closeSync(fs.openSync('inside', 'wx'))
  } catch {
    fs.appendFileSync('overlaps', file + '\n')
  }
  await new Promise((resolve) => setTimeout(resolve, 5))
  fs.rmSync('inside', { force: true })
  fs.appendFileSync(file, '\n')
}

const run = async () => {
  const end = Date.now() + seconds * 1000
  while (Date.now() < end) await lock.lock(inside, { sleepMilliseconds: 20 })
  await pool.end()
  process.exit(0)
}

run().catch((error) => {
  console.error(error)
  process.exit(1)
})
