"""Credit assignment: turns rollout trees and their scores into training rows with advantages. One rule per file."""
