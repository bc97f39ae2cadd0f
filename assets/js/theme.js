// Applies the chosen colors before the first paint; a classic script, because modules run after it.
try {
	const theme = localStorage.getItem("theme");
	if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
	// Storage is switched off: the system's colors apply.
}
