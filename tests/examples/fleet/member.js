// A member that uses an npm package: node member.js PACKAGE NAME SECONDS FILE
// FLEET_PACKAGES: the folder with node_modules; FLEET_SERVER: the server's URL, for the package; FLEET_TTL: seconds
const fs = require('fs')
const { createRequire } = require('module')
const fromFleet = createRequire(process.env.FLEET_PACKAGES + '/')

const [packageName, name, seconds, file] = process.argv.slice(2)
const server = process.env.FLEET_SERVER
const ttl = Number(process.env.FLEET_TTL)
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const append = (to) => fs.appendFileSync(to, file + '\n')

const inside = async () => {
  try {
    fs.closeSync(fs.openSync('inside', 'wx'))
  } catch {
    append('overlaps')
  }
  await sleep(5)
  fs.rmSync('inside', { force: true })
  append(file)
}

// Each returns a function that runs `inside` with the lock, once.
const packages = {
  'advisory-lock': async () => {
    const mutex = fromFleet('advisory-lock').default(server)(name)
    return () => mutex.withLock(inside)
  },
  'consul-locker': async () => {
    const { hostname, port, pathname } = new URL(server)
    const locker = fromFleet('consul-locker')({ host: hostname, port }).create({ name: pathname.slice(1) })
    return async () => {
      try {
        await locker.lock(name)
      } catch (error) {
        if (error.message !== 'Already locked') throw error
        return sleep(10)
      }
      await inside()
      await locker.release(name)
    }
  },
  'node-distributed-lock': async () => {
    const { Pool } = fromFleet('pg')
    const DistributedLock = fromFleet('@ndustrial/node-distributed-lock/lib')
    const queryInterface = new Pool({ connectionString: server, max: 2 })
    const lock = new DistributedLock(name, { queryInterface, lockTTLSeconds: ttl })
    return () => lock.lock(inside, { sleepMilliseconds: 20 })
  },
  'sql-lock': async () => {
    const { initialize, getLock } = fromFleet('sql-lock')
    await initialize(server, { locking_ttl: ttl * 1000 })
    return async () => {
      const release = await getLock(name)
      await inside()
      await release()
    }
  },
}

const run = async () => {
  const end = Date.now() + seconds * 1000
  const once = await packages[packageName]()
  while (Date.now() < end) {
    try {
      await once()
    } catch (error) {
      // Of MySQL's deadlocks among those that wait, `sql-lock` leaves one to its caller now and then.
      if (error.original?.code !== 'ER_LOCK_DEADLOCK') throw error
      append('deadlocks')
    }
  }
  process.exit(0)
}

run().catch((error) => {
  console.error(error)
  process.exit(1)
})
