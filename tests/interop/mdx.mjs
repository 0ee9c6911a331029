// Pages as MDX and Markdown read them (npm: @mdx-js/mdx, remark-gfm): a JSON line in holds one, a
// JSON line out its syntax tree, null if it does not compile. Ends with its stdin.

import { createInterface } from 'node:readline';
import { createProcessor } from '@mdx-js/mdx';
import remarkFrontmatter from 'remark-frontmatter';
import remarkGfm from 'remark-gfm';

// Places change with the page; an expression's syntax tree says again what its text says.
const LEFT = new Set(['data', 'position']);
const processors = Object.fromEntries(['md', 'mdx'].map((format) => [format, build(format)]));
let tree;

for await (const line of createInterface({ input: process.stdin })) {
  const { format, page } = JSON.parse(line);
  console.log(JSON.stringify(await read(format, page)));
}

function build(format) {
  const keep = () => (root) => {
    tree = JSON.parse(JSON.stringify(root, (key, value) => (LEFT.has(key) ? undefined : value)));
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
