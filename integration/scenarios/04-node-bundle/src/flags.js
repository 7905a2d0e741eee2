const NAMES = ('alfa bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa '
  + 'quebec romeo sierra tango uniform victor whiskey x-ray yankee zulu').split(' ');

/** The flag for each letter of a word; other characters are left out. */
export function spell(word) {
  return [...word.toLowerCase()].map((c) => NAMES[c.charCodeAt(0) - 97]).filter(Boolean);
}
