// Makes calls with an unmodified SDK for Node. Usage: node send.mjs SDK URL WRITE_KEY CALLS BEHIND_S
// CALLS is a file with the calls in the words of the wire. The clock of this process is BEHIND_S seconds slow. What the SDK
// gave up is printed as a JSON list.
import { readFileSync } from 'node:fs'

const [sdk, url, writeKey, calls, behind] = process.argv.slice(2)
const failures = []
const PATIENCE_MS = 3000

if (Number(behind)) {
  const Right = Date
  const now = () => Right.now() - Number(behind) * 1000
  globalThis.Date = class Date extends Right {
    constructor(...words) {
      super(...(words.length ? words : [now()]))
    }
    static now() {
      return now()
    }
  }
}

// How each SDK is told where to send, in batches of 20. Those that resend what they waited for too long are impatient.
const makers = {
  'segment-node': async () => {
    const { Analytics } = await import('@segment/analytics-node')
    return new Analytics({ host: url, writeKey, flushAt: 20, flushInterval: 50, httpRequestTimeout: PATIENCE_MS })
  },
  'customerio-node': async () => {
    const { Analytics } = await import('@customerio/cdp-analytics-node')
    return new Analytics({ host: url, writeKey, maxEventsInBatch: 20, flushInterval: 50, httpRequestTimeout: PATIENCE_MS })
  },
  'rudder-node': async () => {
    const { default: Analytics } = await import('@rudderstack/rudder-sdk-node')
    return new Analytics(writeKey, { dataPlaneUrl: url, flushAt: 20, flushInterval: 50, logLevel: 'none', errorHandler: () => {} })
  },
  'old-analytics-node': async () => {
    const { default: Analytics } = await import('analytics-node')
    return new Analytics(writeKey, { host: url, flushAt: 20, flushInterval: 50, errorHandler: () => {} })
  },
}

const analytics = await makers[sdk]()
const told = JSON.parse(readFileSync(calls, 'utf8')).map(({ type, timestamp, ...message }) => new Promise((resolve) => {
  if (timestamp) message.timestamp = new Date(timestamp)
  analytics[type](message, (error) => {
    if (error) failures.push(`${message.messageId}: ${error.reason ?? error.message ?? error}`)
    resolve()
  })
}))
await analytics.closeAndFlush?.({ timeout: 50000 })
await Promise.all(told)
console.log(JSON.stringify(failures))
