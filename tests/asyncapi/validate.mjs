// Prints what AsyncAPI's parser finds in a document; exit code 1 where it finds anything at all.
import { readFileSync } from 'node:fs';
import { Parser } from '@asyncapi/parser';

const [path] = process.argv.slice(2);
const { document, diagnostics } = await new Parser().parse(readFileSync(path, 'utf8'));
for (const { message, path: where, range } of diagnostics) {
  console.error(`${path}:${range.start.line + 1}: ${where.join('.')}: ${message}`);
}
if (!document || diagnostics.length > 0) process.exit(1);
console.log(`${path}: valid AsyncAPI ${document.version()}, ${document.operations().length} operations`);
