// Fills in URI templates (RFC 6570, without the modifiers of level 4).

// By operator: what an expression begins with, what is between its values, whether values have their
// names, and whether reserved characters stay as they are.
const OPERATORS = {
  '': ['', ',', false, false],
  '+': ['', ',', false, true],
  '#': ['#', ',', false, true],
  '.': ['.', '.', false, false],
  '/': ['/', '/', false, false],
  ';': [';', ';', true, false],
  '?': ['?', '&', true, false],
  '&': ['&', '&', true, false],
};

export function expandTemplate(template, values) {
  return template.replace(/\{([+#./;?&]?)([^}]+)\}/g, (_, operator, names) => {
    const [first, between, named, reserved] = OPERATORS[operator];
    const parts = names.split(',').map((name) => {
      const text = String(values[name]);
      const value = reserved ? encodeURI(text) : encodeRest(encodeURIComponent(text));
      return named ? `${name}=${value}` : value;
    });
    return first + parts.join(between);
  });
}

// encodeURIComponent leaves five reserved characters (RFC 3986, section 2.2).
function encodeRest(text) {
  return text.replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}
