'use strict';
// A dependency small enough to read.
module.exports = (text) => `${String(text).toUpperCase()}!`;
