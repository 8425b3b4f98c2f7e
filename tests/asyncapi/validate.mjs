// What AsyncAPI's parser finds in docs/asyncapi.yaml, and whether ajv, by which editors check, takes
// the JSON Schemas; exit code 1 where there is anything to find at all.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Parser } from '@asyncapi/parser';
import Ajv from 'ajv/dist/2020.js';

const [docs] = process.argv.slice(2);
const path = join(docs, 'asyncapi.yaml');
const { document, diagnostics } = await new Parser().parse(readFileSync(path, 'utf8'));
for (const { message, path: where, range } of diagnostics) {
  console.error(`${path}:${range.start.line + 1}: ${where.join('.')}: ${message}`);
}
if (!document || diagnostics.length > 0) process.exit(1);
console.log(`${path}: valid AsyncAPI ${document.version()}, ${document.operations().length} operations`);

// A limit stands beside what may be a number or a text with a unit, which strict types would refuse.
const ajv = new Ajv.default({ strict: true, strictTypes: false, strictRequired: false, validateFormats: false });
ajv.addVocabulary(['patternErrorMessage']);
for (const name of readdirSync(join(docs, 'schemas'))) {
  const schema = join(docs, 'schemas', name);
  ajv.compile(JSON.parse(readFileSync(schema, 'utf8')));  // it throws where the schema is none
  console.log(`${schema}: a valid schema`);
}
