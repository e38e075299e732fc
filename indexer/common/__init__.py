"""What every package may use: errors, times as text, values of settings, logs. Imports nothing of ours."""
