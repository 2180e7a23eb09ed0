'use strict';
const assert = require('assert');
assert.strictEqual(require('shout')('ok'), 'OK!');
console.log('selftest passed');
