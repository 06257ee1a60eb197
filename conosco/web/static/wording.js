// The page's words: which language, and its texts with parameters and plural forms.
export const LANGUAGES = ["en", "it", "pl", "pt"];

export function chooseLanguage(wanted) {
  for (const name of wanted) {
    const known = LANGUAGES.find((language) => language === name.toLowerCase().split("-")[0]);
    if (known) return known;
  }
  return "en";
}

export async function loadWords(language) {
  const answer = await fetch(`/static/words/${language}.json`);
  const catalogue = await answer.json();
  const plurals = new Intl.PluralRules(language);
  const fill = (text, params) => text.replace(/\{([a-z_]+)\}/g, (_, name) => String(params[name] ?? "…"));
  return {
    text: (key, params = {}) => fill(catalogue[key] ?? key, params),
    count: (key, number, numbers) => {
      const form = catalogue[`${key}_${plurals.select(number)}`] ?? catalogue[`${key}_other`];
      return fill(form, { count: numbers.format(number) });
    },
  };
}
