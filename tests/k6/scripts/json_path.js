// What a JSONPath finds, by its segments; the document is like that of RFC 9535, section 1.5.
import { check } from 'k6';
import { findValues } from '../../../k6/lib/json_path.js';

export const options = { thresholds: { checks: ['rate==1'] } };

const BOOKS = [{ title: 'one', price: 8 }, { title: 'two', price: 13 }, { title: 'three', price: null }];
const DOCUMENT = { store: { book: BOOKS, bicycle: { price: 399 } }, length: 7 };
const [store, book] = [{ name: 'store' }, { name: 'book' }];
const CASES = [
  ['the root', [], [DOCUMENT]],
  ['a name', [{ name: 'length' }], [7]],
  ['an index', [store, book, { index: 0 }, { name: 'title' }], ['one']],
  ['an index from the end', [store, book, { index: -1 }, { name: 'title' }], ['three']],
  ['an index beyond the end', [store, book, { index: 3 }], []],
  ['an index before the start', [store, book, { index: -4 }], []],
  ['all items', [store, book, { all: true }, { name: 'title' }], ['one', 'two', 'three']],
  ['all members', [{ all: true }, { name: 'bicycle' }], [{ price: 399 }]],
  ['a slice', [store, book, { slice: [1, null] }, { name: 'title' }], ['two', 'three']],
  ['a slice to an end', [store, book, { slice: [null, -1] }, { name: 'title' }], ['one', 'two']],
  ['every depth', [{ name: 'price', deep: true }], [8, 13, null, 399]],
  ['null is a value', [store, book, { index: 2 }, { name: 'price' }], [null]],
  ['a name that is not there', [{ name: 'nothing' }], []],
  ['a name of every object', [{ name: 'toString' }], []],
  ['the length of a list', [store, book, { name: 'length' }], []],
  ['a name in a number', [{ name: 'length' }, { name: 'x' }], []],
  ['an index in an object', [store, { index: 0 }], []],
];

export default function jsonPath() {
  for (const [name, segments, expected] of CASES) {
    const found = JSON.stringify(findValues(DOCUMENT, segments));
    check(found, { [`${name}: ${found}`]: (it) => it === JSON.stringify(expected) });
  }
  check(findValues('plain text', []), { 'a text is a document': (it) => it[0] === 'plain text' });
  check(findValues(undefined, [{ name: 'x' }]), { 'no document has no values': (it) => it.length === 0 });
}
