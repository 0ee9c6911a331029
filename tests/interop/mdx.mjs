// Parses pages with MDX and Markdown (npm: @mdx-js/mdx, remark-gfm). Reads one page per JSON line and
// prints its syntax tree as a JSON line, null if it does not compile. Ends when stdin closes.

import { createInterface } from 'node:readline';
import { createProcessor } from '@mdx-js/mdx';
import remarkFrontmatter from 'remark-frontmatter';
import remarkGfm from 'remark-gfm';

// Positions change with the page, and the syntax tree of an expression repeats its text.
const IGNORED = new Set(['data', 'position']);
const processors = Object.fromEntries(['md', 'mdx'].map((format) => [format, build(format)]));
let tree;

for await (const line of createInterface({ input: process.stdin })) {
  const { format, page } = JSON.parse(line);
  console.log(JSON.stringify(await read(format, page)));
}

function build(format) {
  const keep = () => (root) => {
    tree = JSON.parse(JSON.stringify(root, (key, value) => (IGNORED.has(key) ? undefined : value)));
  };
  const frontmatter = [remarkFrontmatter, ['yaml', 'toml']];
  return createProcessor({ format, remarkPlugins: [frontmatter, remarkGfm, keep] });
}

async function read(format, page) {
  try {
    await processors[format].process(page);
    return { tree };
  } catch (failure) {
    if (!failure.reason) throw failure;
    return { tree: null };
  }
}
