// Makes every kind of call with the unmodified SDK and prints what each event must say, by message id.
// Usage: node send.mjs HOST WRITE_KEY ROUNDS
import { Analytics } from '@segment/analytics-node'

const [host, writeKey, rounds] = process.argv.slice(2)
const analytics = new Analytics({ host, writeKey, flushAt: 7, flushInterval: 50 })
const sent = {}
const failures = []
analytics.on('error', (error) => failures.push(String(error.reason ?? error.code)))

const at = new Date('2026-03-01T12:00:00.123Z')
const odd = {
  whole: Number.MAX_SAFE_INTEGER, small: 1.5e-7, tenth: 0.1, none: null, nul: 'a\0b', Case: 1, case: 2, 'd.o.t': 1, 'ключ🙂': 'ż',
}

function call(name, expected, message) {
  const messageId = `${name}-${Object.keys(sent).length}`
  sent[messageId] = { type: name, timestamp: at.toISOString(), ...expected }
  analytics[name]({ ...message, messageId, timestamp: at })
}

for (let round = 0; round < Number(rounds); round++) {
  const traits = { email: 'ada@example.com', plan: 'gold' }
  call('identify', { userId: 'ada', traits }, { userId: 'ada', traits })
  call('track', { event: 'Order Completed', properties: odd }, { userId: 'ada', event: 'Order Completed', properties: odd })
  call('track', { anonymousId: 'a-1' }, { anonymousId: 'a-1', event: 'Viewed', context: { ip: '192.0.2.1' }, integrations: { All: false } })
  call('page', { name: 'Home' }, { userId: 'ada', name: 'Home', category: 'shop', properties: { url: 'https://shop.example/' } })
  call('screen', { name: 'Start' }, { anonymousId: 'a-1', name: 'Start' })
  call('group', { groupId: 'acme', traits: { size: 5 } }, { userId: 'ada', groupId: 'acme', traits: { size: 5 } })
  call('alias', { previousId: 'a-1', userId: 'ada' }, { previousId: 'a-1', userId: 'ada' })
}

await analytics.closeAndFlush({ timeout: 60000 })
console.log(JSON.stringify({ sent, failures }))
