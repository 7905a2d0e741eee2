import colors from 'picocolors';
import { spell } from './flags.js';

for (const word of process.argv.slice(2)) {
  console.log(`${colors.bold(word)}: ${spell(word).join(' ')}`);
}
